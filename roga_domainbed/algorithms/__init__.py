"""The plugin's algorithms, as subclasses of those of whichever DomainBed is in use."""
