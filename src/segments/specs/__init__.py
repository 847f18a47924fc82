"""Generated interface descriptions: AsyncAPI, JSON Schemas, tables for the docs."""
