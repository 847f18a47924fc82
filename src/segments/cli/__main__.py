"""`python -m segments.cli`."""

from segments.cli import main

if __name__ == "__main__":
    main()
