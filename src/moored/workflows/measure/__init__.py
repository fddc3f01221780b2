"""`moored measure`: what a model refuses, over-refuses and can do, and how far it has drifted."""
