"""Which DomainBed is in use: a checkout or the embedded engine."""
