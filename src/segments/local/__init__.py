"""Running a whole deployment on one machine."""
