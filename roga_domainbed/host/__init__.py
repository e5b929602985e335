"""The DomainBed in use: a checkout, or the embedded engine."""
