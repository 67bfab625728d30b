package config

// Keys counts the keys there are.
func Keys() int { return len(settings(&Config{})) }
