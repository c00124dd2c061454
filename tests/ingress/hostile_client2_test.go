package ingress

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A client2 speaks HTTP/2 by frames, legal or not, over a connection with TLS or without.
type client2 struct {
	*http2.Framer
	connection net.Conn
	block      bytes.Buffer
	encoder    *hpack.Encoder
	// failed is the first write that was in vain: the gateway reads no more.
	failed error
}

func (g *gateway) client2(t *testing.T) *client2 {
	t.Helper()
	c := g.connect(t, "h2")
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	f := &client2{Framer: http2.NewFramer(c, c), connection: c}
	f.AllowIllegalWrites, f.AllowIllegalReads = true, true
	f.encoder = hpack.NewEncoder(&f.block)
	_, err := io.WriteString(c, http2.ClientPreface)
	f.did(err)
	return f
}

// did notes the first error of a write.
func (f *client2) did(err error) {
	if f.failed == nil {
		f.failed = err
	}
}

// notReading makes little room for answers, and waits no longer than it takes to fill it.
func (f *client2) notReading() {
	tcp := f.connection
	if secure, ok := tcp.(*tls.Conn); ok {
		tcp = secure.NetConn()
	}
	f.did(tcp.(*net.TCPConn).SetReadBuffer(4096))
	f.did(f.connection.SetDeadline(time.Now().Add(1500 * time.Millisecond)))
}

// fields encodes names and values as they are.
func (f *client2) fields(pairs ...string) []byte {
	f.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		f.did(f.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}))
	}
	return bytes.Clone(f.block.Bytes())
}

// open begins a stream, in as many frames as its fields need.
func (f *client2) open(stream uint32, end bool, pairs ...string) {
	const most = 16 << 10
	block := f.fields(pairs...)
	first, rest := block[:min(most, len(block))], block[min(most, len(block)):]
	f.did(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0}))
	for len(rest) > 0 {
		first, rest = rest[:min(most, len(rest))], rest[min(most, len(rest)):]
		f.did(f.WriteContinuation(stream, len(rest) == 0, first))
	}
}

// request is the regular pseudo header of one, with more fields.
func request(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":authority", "web", ":path", "/"}, more...)
}

// asked replaces a pseudo field of a request.
func asked(name, value string) []string {
	pairs := request()
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == name {
			pairs[i+1] = value
		}
	}
	return pairs
}

// outcome is what becomes of a stream: a status, or "reset" with the code; "closed" is that of the whole connection, with a
// GOAWAY before it or not; "stalled" is one from which the gateway does not read.
func (f *client2) outcome(stream uint32) string {
	decoder := hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			if f.failed != nil {
				return "stalled"
			}
			return "open"
		case err != nil:
			return "closed"
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.did(f.WriteSettingsAck())
			}
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				return "closed"
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				return "reset " + frame.ErrCode.String()
			}
		case *http2.HeadersFrame:
			fields, err := decoder.DecodeFull(frame.HeaderBlockFragment())
			if err != nil {
				return fmt.Sprint("no header: ", err)
			}
			if frame.StreamID == stream {
				return fields[0].Value
			}
		}
	}
}
