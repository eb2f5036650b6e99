"""Configuration as a source: settings, secrets, certificates and infrastructure, in one small recovery point."""
