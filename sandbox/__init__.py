"""The embedded services of the demo and the tests: real servers on free loopback ports, no system package needed."""
