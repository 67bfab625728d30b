package cms_test

import (
	"bytes"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"pgregory.net/rapid"
)

// node is an element of DER, taken apart so that it can be put together again with lengths that fit.
type node struct {
	tag      asn1.Tag
	value    []byte // when there are no children
	children []*node
}

// readNodes takes apart what it can. What is in whole is left whole.
func readNodes(in cryptobyte.String, whole [][]byte) (list []*node, ok bool) {
	for !in.Empty() {
		var element, value cryptobyte.String
		var tag asn1.Tag
		if !in.ReadAnyASN1Element(&element, &tag) {
			return nil, false
		}
		isWhole := slices.ContainsFunc(whole, func(w []byte) bool { return bytes.Equal(w, element) })
		element.ReadAnyASN1(&value, &tag)
		n := &node{tag: tag, value: value}
		if tag&0x20 != 0 && !isWhole {
			n.children, _ = readNodes(value, whole)
		}
		list = append(list, n)
	}
	return list, true
}

func (n *node) build() []byte {
	if n.children == nil {
		return element(n.tag, n.value)
	}
	var parts [][]byte
	for _, c := range n.children {
		parts = append(parts, c.build())
	}
	return element(n.tag, parts...)
}

// all returns n and everything below.
func (n *node) all() []*node {
	list := []*node{n}
	for _, c := range n.children {
		list = append(list, c.all()...)
	}
	return list
}

// mutated changes one thing about a message: a byte anywhere, or an element, with all lengths made to fit. What is in whole
// may move, but is not changed.
func mutated(t *rapid.T, der []byte, whole ...[]byte) []byte {
	nodes, ok := readNodes(der, whole)
	if !ok || len(nodes) != 1 || rapid.Bool().Draw(t, "byte") {
		return mutatedByte(t, der, whole)
	}
	root := nodes[0]
	inner := slices.DeleteFunc(root.all(), func(n *node) bool { return len(n.children) == 0 })
	n := inner[rapid.IntRange(0, len(inner)-1).Draw(t, "parent")]
	i := rapid.IntRange(0, len(n.children)-1).Draw(t, "child")
	child := n.children[i]
	switch rapid.SampledFrom([]string{"remove", "twice", "swap", "tag", "value", "empty", "other"}).Draw(t, "change") {
	case "remove":
		n.children = append([]*node{}, slices.Delete(n.children, i, i+1)...)
	case "twice":
		n.children = slices.Insert(n.children, i, child)
	case "swap":
		j := rapid.IntRange(0, len(n.children)-1).Draw(t, "with")
		n.children[i], n.children[j] = n.children[j], child
	case "tag":
		if tag := child.tag ^ 1<<rapid.IntRange(0, 7).Draw(t, "bit"); tag&0x1f != 0x1f { // which would go on in the next byte
			child.tag = tag
		}
	case "value":
		if child.children == nil && len(child.value) > 0 && !slices.ContainsFunc(whole, func(w []byte) bool { return bytes.HasSuffix(w, child.value) }) {
			child.value = bytes.Clone(child.value)
			child.value[rapid.IntRange(0, len(child.value)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
	case "empty":
		child.children, child.value = nil, nil
	case "other":
		all := root.all()
		other := all[rapid.IntRange(0, len(all)-1).Draw(t, "by")]
		if !slices.Contains(other.all(), n) { // an element within itself has no end
			n.children[i] = other
		}
	}
	return root.build()
}

func mutatedByte(t *rapid.T, der []byte, whole [][]byte) []byte {
	at := rapid.IntRange(0, len(der)-1).Draw(t, "at")
	for _, w := range whole {
		if start := bytes.Index(der, w); start >= 0 && at >= start && at < start+len(w) {
			return der
		}
	}
	der = bytes.Clone(der)
	der[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	return der
}
