"""The helpers of DomainBed's ``lib`` folder, under the same module names."""
