package slot

import "context"

// Loader is a boot loader, or what stands for one, and its idea of which slot starts. Every change is durable when the method
// returns, and each method may be called again after it was interrupted anywhere. Errors are *reason.Error.
type Loader interface {
	State(ctx context.Context) (State, error)
	// Disarm is called before the content of a slot is destroyed: from then on it is neither started next nor fallen back
	// to. It is never called for the good slot, and for the one that runs only while State.Next names it. It does nothing for a slot that is neither.
	Disarm(ctx context.Context, slot string) error
	// Arm has the slot tried at the next boot, or the next few boots, after which the boot loader returns to State.Good by
	// itself.
	Arm(ctx context.Context, slot string) error
	// Bless makes the running slot the one that boots from now on.
	Bless(ctx context.Context, slot string) error
}

// State is what a boot loader knows.
type State struct {
	Running string // the slot that runs
	Good    string // the slot that boots unless Next says otherwise
	Next    string // the slot to be tried at the next boot; empty when there is none
	Tries   int    // how often Next, or else the running slot on trial, may still be started; 0 where that is not known
}

// Placer is a Loader that names the files of slots itself, because names or places of theirs mean something to the boot
// loader.
type Placer interface {
	// Place returns the path of the file that holds the slot's image or that a new one is to be written to. Between Disarm
	// and Arm it does not change, and nothing that is written there is started.
	Place(ctx context.Context, slot string) (path string, err error)
}
