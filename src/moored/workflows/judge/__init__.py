"""`moored judge`."""
