// Command forge tries what only package artifacts may do: to make onboarding information, and evidence about a server. It
// must not compile, and a test makes sure of that, line by line.
package main

import "github.com/xpu-sztp/ztp/artifacts"

func main() {
	_ = artifacts.Onboarding{trusted: true}
	var o artifacts.Onboarding
	o.trusted = true
	o.pre = []byte("#!/bin/sh\n")
	_ = artifacts.Onboarding{true, nil, nil, nil, nil, nil}
	_ = artifacts.ServerEvidence{anchor: nil}
	var e artifacts.ServerEvidence
	e.leaf = nil
}
