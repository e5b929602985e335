"""The embedded engine: DomainBed's interface where no DomainBed checkout is found.

Its modules have upstream's names and meaning; seeds, splits, hyper-parameters, job folders, records and tables
are interchangeable with upstream's. Nothing is imported here, so the parts without torch stay without it.
"""
