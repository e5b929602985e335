"""All that is patched into a DomainBed checkout, in memory."""
