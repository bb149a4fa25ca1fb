"""Built-in catalog sources and cache stores. Plugins like anybody's: they know the core and nothing else of Cupola."""
