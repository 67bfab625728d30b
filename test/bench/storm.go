package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// stormCost has ten thousand agents, powered on in the same second, meet a server that is down for ten minutes: a test of the
// agent, in which time is simulated. It tells how many more requests than on average the server gets in its busiest moment
// after it is back.
func stormCost() ([]figure, error) {
	const attribute = "storm-peak-to-mean"
	out, err := goTool("test", "-run=^TestStorm$", "-count=1", "-v", "github.com/xpu-sztp/ztp/pkg/agent")
	if err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 5 || fields[1] != "ATTR" || fields[3] != attribute {
			continue
		}
		ratio, err := strconv.ParseFloat(fields[4], 64)
		if err != nil {
			return nil, err
		}
		return []figure{{attribute, ratio, "times", 2}}, nil
	}
	return nil, fmt.Errorf("the test does not tell %s:\n%s", attribute, out)
}
