"""JMSNAS: joint model split and neural architecture search on measured devices."""
