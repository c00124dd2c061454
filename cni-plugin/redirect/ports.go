package redirect

import (
	"encoding"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PortRange is the ports From to To, both included, 1 to 65535. Its text form is
// "8080" or "8000-9000".
type PortRange struct {
	From, To uint16
}

var (
	_ encoding.TextMarshaler   = PortRange{}
	_ encoding.TextUnmarshaler = (*PortRange)(nil)
)

func (r PortRange) validate() error {
	switch {
	case r.From == 0:
		return errors.New("a port must be 1 to 65535")
	case r.To < r.From:
		return fmt.Errorf("ends before it begins; write %d-%d", r.To, r.From)
	}
	return nil
}

// String is the text form.
func (r PortRange) String() string {
	if r.From == r.To {
		return strconv.Itoa(int(r.From))
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// MarshalText gives the text form of a valid range.
func (r PortRange) MarshalText() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("port range %q: %w", r, err)
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads the text form. Signs, spaces, leading zeros, 0 and ports
// above 65535 are errors.
func (r *PortRange) UnmarshalText(text []byte) error {
	from, to, isRange := strings.Cut(string(text), "-")
	if !isRange {
		to = from
	}
	var got PortRange
	var err error
	if got.From, err = parsePort(from); err == nil {
		got.To, err = parsePort(to)
	}
	if err == nil {
		err = got.validate()
	}
	if err != nil {
		return fmt.Errorf(`port range %s: %w; write "8080" or "8000-9000"`, abbreviate(string(text)), err)
	}
	*r = got
	return nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s != strconv.FormatUint(n, 10) {
		return 0, errors.New("a port must be 1 to 65535")
	}
	return uint16(n), nil
}
