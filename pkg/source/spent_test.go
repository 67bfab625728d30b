package source

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// endless finds leads as long as they are visited in vain.
type endless int

func (endless) Name() string { return "endless" }

func (n endless) Find(_ context.Context, _ *Uplink, visit func(Lead) error) error {
	var errs []error
	for range int(n) {
		errs = append(errs, visit(Lead{}))
	}
	return errors.Join(errs...)
}

// TestLeadsEndInTime: what neighbours make up leads to servers that keep the agent as long as they can. The finder after
// that gets its turn all the same.
func TestLeadsEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		visits := 0
		r := &round{Networks: &Networks{NetworksOptions: NetworksOptions{Finders: []Finder{endless(40), endless(1)}}},
			visit: func(context.Context, Lead) error {
				visits++
				time.Sleep(25 * time.Minute) // of the bubble's clock
				return errors.New("in vain")
			}}
		began := time.Now()
		res := (&attempt{round: r}).look(t.Context(), t.Context(), &Uplink{})
		if took := time.Since(began); visits != 4 || took != 100*time.Minute {
			t.Errorf("%d visits took %v", visits, took)
		}
		if len(res.findings) != 2 || !errors.Is(res.findings[0].err, errTooLong) || errors.Is(res.findings[1].err, errTooLong) {
			t.Errorf("%+v", res.findings)
		}
	})
}
