package onboard

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/xpu-sztp/ztp/pkg/reason"
)

// mergePatch applies patch to present as RFC 7396 says. Both must be JSON objects. Numbers keep their digits; the order
// of members does not survive.
func mergePatch(present, patch []byte) ([]byte, error) {
	target, err := decodeObject(present)
	if err != nil {
		return nil, mergeError("the present configuration is not a JSON object", err)
	}
	changes, err := decodeObject(patch)
	if err != nil {
		return nil, mergeError("the new configuration is not a JSON object", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(merged(target, changes)); err != nil {
		return nil, mergeError("the merged configuration cannot be encoded", err)
	}
	return out.Bytes(), nil
}

// merged changes target. Its depth is that of patch, which the decoder has bounded.
func merged(target, patch map[string]any) map[string]any {
	for name, value := range patch {
		if value == nil {
			delete(target, name)
			continue
		}
		changes, ok := value.(map[string]any)
		if !ok {
			target[name] = value
			continue
		}
		inner, ok := target[name].(map[string]any)
		if !ok {
			inner = make(map[string]any)
		}
		target[name] = merged(inner, changes)
	}
	return target
}

func decodeObject(data []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	if object == nil {
		return nil, errors.New("it is null")
	}
	return object, nil
}

func mergeError(msg string, err error) error {
	return &reason.Error{
		Code: ReasonConfigMerge,
		Msg:  msg + ", so the two cannot be merged",
		Fix:  `use configuration-handling "replace", or an external handler that can merge this format`,
		Err:  err,
	}
}
