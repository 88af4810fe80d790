"""JMSNAS: joint model split and neural architecture search over devices that were measured."""
