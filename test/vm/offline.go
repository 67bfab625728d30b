package main

import "context"

// impatient ends a trial that has not succeeded in time, for good.
const impatient = once + "\ntrial-timeout = \"1m\""

// offline has a new image that boots, and never finds the network. The device returns to what it had by itself.
func offline(ctx context.Context, r *rig) error {
	image, err := r.newImage(ctx, "2.0.0", map[string]string{"ztp.toml": r.configuration() + "[discovery]\nexclude = [\"*\"]\n"})
	if err != nil {
		return err
	}
	r.upgrade(image)
	if err := r.tries(ctx, "a", "1.0.0"); err != nil {
		return err
	}
	if err := r.tries(ctx, "b", "2.0.0"); err != nil {
		return err
	}
	if err := r.powerOn(ctx); err != nil {
		return err
	}
	if err := r.fellBack(ctx); err != nil {
		return err
	}
	return r.repairs(ctx, "2.0.1")
}
