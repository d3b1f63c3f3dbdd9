"""The shared head-wise KV cache: layout, ownership and block tables on the host, blocks on the device."""
