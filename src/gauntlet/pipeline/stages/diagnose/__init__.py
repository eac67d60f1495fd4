"""Stage `diagnose`: probes of trained networks for gradient masking."""
