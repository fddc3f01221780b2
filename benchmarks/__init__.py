"""The measurements behind results/ and the tables of the documentation; each script runs as a module from the root."""
