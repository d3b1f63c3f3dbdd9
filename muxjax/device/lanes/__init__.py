"""Lanes: streams of one device whose steps run beside each other, over one arena."""
