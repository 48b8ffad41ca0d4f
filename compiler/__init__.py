"""The compiler: configuration in, plan out. Pure: no clock, no network, no environment, no writes."""
