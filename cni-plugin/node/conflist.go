package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// element is one entry of a conflist's plugins, by its place in the file.
type element struct {
	start, end int // list[start:end] is its JSON
	ours       bool
}

// insert returns the conflist with entry as its last plugin and every other byte
// as it was. A list that has the entry after another plugin, however formatted,
// is returned as it is; an entry of ours that is not so is replaced.
func insert(list, entry []byte) ([]byte, error) {
	plugins, err := scan(list)
	if err != nil {
		return nil, err
	}
	if isChained(list, plugins, entry) {
		return list, nil
	}
	if list, err = remove(list); err != nil {
		return nil, err
	}
	if plugins, err = scan(list); err != nil {
		return nil, err
	}
	last := plugins[len(plugins)-1]
	out := bytes.Clone(list[:last.end])
	out = append(out, ',')
	out = append(out, spaceBefore(list, last.start)...)
	out = append(out, entry...)
	return append(out, list[last.end:]...), nil
}

// remove returns the conflist without our entries and every other byte as it
// was; it undoes insert exactly.
func remove(list []byte) ([]byte, error) {
	plugins, err := scan(list)
	if err != nil {
		return nil, err
	}
	for i, p := range plugins {
		if !p.ours {
			continue
		}
		if len(plugins) == 1 {
			return nil, errors.New("traffic-cni is the only plugin: the one that makes the network is missing")
		}
		start, end := p.start, p.end
		if i > 0 {
			start = plugins[i-1].end
		} else {
			end = plugins[1].start
		}
		return remove(append(bytes.Clone(list[:start]), list[end:]...))
	}
	return list, nil
}

// isChained reports whether entry is the one entry of ours, after another.
func isChained(list []byte, plugins []element, entry []byte) bool {
	found := 0
	for i, p := range plugins {
		if !p.ours {
			continue
		}
		found++
		if i == 0 || !equalJSON(list[p.start:p.end], entry) {
			return false
		}
	}
	return found == 1
}

func equalJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// checkVersion reports a conflist that a runtime may use with a version of the
// CNI specification that our plugin does not speak: the plugin would then refuse
// every pod of the node. Runtimes before 1.1.0 use cniVersion, later ones the
// greatest of cniVersions that they know.
func checkVersion(list []byte) error {
	var keys struct {
		CNIVersion  string   `json:"cniVersion"`
		CNIVersions []string `json:"cniVersions"`
	}
	if err := json.Unmarshal(list, &keys); err != nil {
		return err
	}
	greatest := keys.CNIVersion
	for _, v := range keys.CNIVersions {
		newer, err := version.GreaterThan(v, greatest)
		if err != nil {
			return fmt.Errorf("key cniVersions: %w", err)
		}
		if newer {
			greatest = v
		}
	}
	speaks := plugin.Versions().SupportedVersions()
	for _, v := range []string{keys.CNIVersion, greatest} {
		if !slices.Contains(speaks, v) {
			return fmt.Errorf("version %q: traffic-cni speaks %s only and would refuse every pod; set cniVersion, and cniVersions if it is there, to these", v, strings.Join(speaks, ", "))
		}
	}
	return nil
}

// spaceBefore is the white space that ends at offset: the indentation of the
// element that starts there.
func spaceBefore(list []byte, offset int) []byte {
	start := offset
	for start > 0 && bytes.IndexByte([]byte(" \t\r\n"), list[start-1]) >= 0 {
		start--
	}
	return list[start:offset]
}

// scan finds the elements of the key plugins; of several such keys the last
// counts, as it does for runtimes. There is at least one element.
func scan(list []byte) ([]element, error) {
	dec := json.NewDecoder(bytes.NewReader(list))
	if err := expect(dec, json.Delim('{')); err != nil {
		return nil, err
	}
	var plugins []element
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("not valid JSON: %w", err)
		}
		if key != "plugins" {
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return nil, fmt.Errorf("key %q: not valid JSON: %w", key, err)
			}
			continue
		}
		if plugins, err = scanPlugins(dec); err != nil {
			return nil, fmt.Errorf("key plugins: %w", err)
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	if len(plugins) == 0 {
		return nil, errors.New("has no plugins of its own")
	}
	return plugins, nil
}

func scanPlugins(dec *json.Decoder) ([]element, error) {
	if err := expect(dec, json.Delim('[')); err != nil {
		return nil, err
	}
	var plugins []element
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("not valid JSON: %w", err)
		}
		var conf struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(raw, &conf); err != nil {
			return nil, fmt.Errorf("element %d: %w", len(plugins), err)
		}
		end := int(dec.InputOffset())
		plugins = append(plugins, element{start: end - len(raw), end: end, ours: conf.Type == plugin.Type})
	}
	return plugins, expect(dec, json.Delim(']'))
}

func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return fmt.Errorf("not valid JSON: %w", err)
	}
	if got != want {
		return fmt.Errorf("%v where %v was expected", got, want)
	}
	return nil
}
