"""Integer model to circuit: components, engine, compiler, simulation, build and host."""
