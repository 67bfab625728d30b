package systemd

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// TestEncode has the library read what this package writes.
func TestEncode(t *testing.T) {
	var body encoder
	body.strings("x.service")
	body.bool(true)
	body.bool(false)
	m, err := dbus.DecodeMessage(bytes.NewReader(encode(typeCall, 7, managerName, managerPath, managerFace, "EnableUnitFiles", "asbb", body)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.IsValid(); err != nil || m.Serial() != 7 {
		t.Errorf("%v, %v", m, err)
	}
	if diff := cmp.Diff([]any{[]string{"x.service"}, true, false}, m.Body); diff != "" {
		t.Error(diff)
	}
}

// written is what the library writes.
func written(t testing.TB, order binary.ByteOrder, kind dbus.Type, headers map[dbus.HeaderField]any, body ...any) []byte {
	t.Helper()
	m := &dbus.Message{Type: kind, Headers: map[dbus.HeaderField]dbus.Variant{}, Body: body}
	for field, value := range headers {
		m.Headers[field] = dbus.MakeVariant(value)
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var out bytes.Buffer
	if err := m.EncodeTo(&out, order); err != nil {
		t.Fatal(err)
	}
	data := out.Bytes()
	// It leaves the serial number to its connections.
	order.PutUint32(data[8:], 1)
	return data
}

func messages(t testing.TB, order binary.ByteOrder) map[*message][]byte {
	return map[*message][]byte{
		{kind: typeReply, replyTo: 3, sender: ":1.7", text: "/job/1"}: written(t, order, dbus.TypeMethodReply,
			map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(3), dbus.FieldSender: ":1.7"}, dbus.ObjectPath("/job/1")),
		{kind: typeReply, replyTo: 4}: written(t, order, dbus.TypeMethodReply, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(4)}),
		{kind: typeError, replyTo: 3, name: "org.x.Denied", text: "Access denied"}: written(t, order, dbus.TypeError,
			map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(3), dbus.FieldErrorName: "org.x.Denied"}, "Access denied"),
		{kind: typeSignal, name: jobRemoved, job: "/job/9", result: "failed"}: written(t, order, dbus.TypeSignal,
			map[dbus.HeaderField]any{dbus.FieldPath: dbus.ObjectPath(managerPath), dbus.FieldInterface: managerFace, dbus.FieldMember: jobRemoved},
			uint32(9), dbus.ObjectPath("/job/9"), "x.service", "failed"),
		{kind: typeReply, replyTo: 5}: written(t, order, dbus.TypeMethodReply, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(5)}, true,
			[]string{"changes"}),
	}
}

// TestDecode reads what the library writes, in both byte orders, and refuses what is cut off.
func TestDecode(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for want, data := range messages(t, order) {
			got, err := decode(data)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(message{})); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
			if size, err := sizeOf(data[:16]); size != len(data) || err != nil {
				t.Errorf("%d bytes instead of %d, %v", size, len(data), err)
			}
			for n := range data {
				if short, err := decode(data[:n]); err == nil && *short == *want && want.text+want.result != "" {
					t.Errorf("%d of %d bytes are %+v", n, len(data), short)
				}
			}
		}
	}
}

// FuzzDecode: what is read takes no more than it came with, and what the library takes for a reply or an error, this does too.
func FuzzDecode(f *testing.F) {
	for _, data := range messages(f, binary.LittleEndian) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decode(data)
		if err == nil && len(got.name)+len(got.text)+len(got.job)+len(got.result) > len(data) {
			t.Errorf("%+v of %d bytes", got, len(data))
		}
		m, libErr := dbus.DecodeMessage(bytes.NewReader(data))
		if libErr != nil || m.IsValid() != nil || m.Type != dbus.TypeMethodReply && m.Type != dbus.TypeError {
			return
		}
		size, sizeErr := sizeOf(data[:16])
		if sizeErr != nil || size > len(data) {
			return
		}
		if replyTo, ok := m.Headers[dbus.FieldReplySerial].Value().(uint32); ok && err == nil && got.replyTo != replyTo {
			t.Errorf("a reply to %d instead of %d", got.replyTo, replyTo)
		}
	})
}
