"""Reading pictures of any origin: files, addresses, bytes, PIL images, arrays and tensors."""
