"""Front-ends, the HTTP server and the command line. The only place that knows HTTP, and the only one that prints."""
