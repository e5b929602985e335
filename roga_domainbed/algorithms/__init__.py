"""The plugin's algorithms, as subclasses of the ERM of whichever DomainBed is in use."""
