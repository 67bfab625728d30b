// Command honest does what any program may; that it compiles shows that forge fails for the right reason.
package main

import "github.com/xpu-sztp/ztp/artifacts"

func main() {
	var o artifacts.Onboarding
	var e artifacts.ServerEvidence
	var noO *artifacts.Onboarding
	var noE *artifacts.ServerEvidence
	if o.Valid() || e.Valid() || noO.Valid() || noE.Valid() {
		panic("a zero value is valid")
	}
}
