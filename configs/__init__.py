"""The settings: schema, loading, and the YAML files."""
