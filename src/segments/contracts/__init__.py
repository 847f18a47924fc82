"""What travels between the parts and to other services: one module a contract."""
