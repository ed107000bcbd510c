"""What a plug-in derives from: abstract classes with defaults, one file each."""
