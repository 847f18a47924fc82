"""A whole deployment on one machine: `segments up` and `segments demo`."""
