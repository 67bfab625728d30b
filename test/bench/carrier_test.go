package main

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xpu-sztp/ztp/test/lab/wire"
)

// TestOwnTime takes the waiting for answers away, once. A packet is written as its milliseconds, its direction, and the id of
// a DNS message; the last is any.
func TestOwnTime(t *testing.T) {
	for name, test := range map[string]struct {
		packets string
		own     int // ms
	}{
		"only-sent":        {"100>1", 100},
		"one-answer":       {"100>1 130<1 150>9", 120},
		"two-at-once":      {"100>1 110>2 130<1 140<2 150>9", 110},
		"one-within-other": {"100>1 110>2 120<2 140<1 150>9", 110},
		"one-after-other":  {"100>1 110<1 120>2 140<2 150>9", 120},
		"repeated":         {"100>1 200>1 230<1 250>9", 220},
		"of-somebody-else": {"100>1 130<2 150>9", 150},
		"not-asked":        {"100<1 150>9", 150},
		"answered-twice":   {"100>1 130<1 140<1 150>9", 120},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Unix(1000, 0)
			var packets []wire.Packet
			for _, p := range strings.Fields(test.packets) {
				at := strings.IndexAny(p, "<>")
				ms, err := strconv.Atoi(p[:at])
				if err != nil {
					t.Fatal(err)
				}
				packets = append(packets, dnsPacket(t, begun.Add(time.Duration(ms)*time.Millisecond), p[at] == '>', p[at+1:]))
			}
			if got := ownTime(begun, packets); got != time.Duration(test.own)*time.Millisecond {
				t.Errorf("%v, want %d ms", got, test.own)
			}
		})
	}
}

func dnsPacket(t *testing.T, at time.Time, query bool, id string) wire.Packet {
	t.Helper()
	number, err := strconv.Atoi(id)
	if err != nil {
		t.Fatal(err)
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4(192, 0, 2, 1), DstIP: net.IPv4(192, 0, 2, 2)}
	udp := &layers.UDP{SrcPort: 53, DstPort: 53}
	udp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}, ip, udp,
		&layers.DNS{ID: uint16(number), QR: !query})
	if err != nil {
		t.Fatal(err)
	}
	return wire.Packet{Packet: gopacket.NewPacket(buf.Bytes(), layers.LayerTypeEthernet, gopacket.Default), At: at, FromDevice: query}
}
