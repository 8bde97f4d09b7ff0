"""The control loop: observe, plan, apply, verify."""
