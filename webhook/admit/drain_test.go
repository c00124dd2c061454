package admit

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"
)

// TestDrainLetsConnectionsGo: after an upgrade the API server must not go on asking a replica of the old release over the
// connection that it has.
func TestDrainLetsConnectionsGo(t *testing.T) {
	m := &mount{dir: t.TempDir()}
	m.write(t, secret(t, 1, time.Hour))
	s := serve(t, m, soon)
	client := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // who it is does not matter here
	}}
	defer client.CloseIdleConnections()
	kept := func() (kept bool) {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { kept = c.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.address+InjectPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return kept
	}
	kept()
	if !kept() {
		t.Fatal("a connection is not kept while the server serves")
	}
	s.stop()
	<-s.draining
	for deadline := time.Now().Add(soon / 2); kept(); {
		if time.Now().After(deadline) {
			t.Fatal("a connection is kept while the server drains")
		}
	}
}

// TestDrainFailsNoRequest: a request of the API server that is on its way when a replica begins to end is answered, and told
// to come no more. Only a connection that is silent is closed.
func TestDrainFailsNoRequest(t *testing.T) {
	m := &mount{dir: t.TempDir()}
	m.write(t, secret(t, 1, time.Hour))
	s := serve(t, m, soon)
	dial := func() (*tls.Conn, *bufio.Reader) {
		c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true}) // who it is does not matter here
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, bufio.NewReader(c)
	}
	ask := func(c *tls.Conn, answers *bufio.Reader) *http.Response {
		if _, err := io.WriteString(c, "GET "+InjectPath+" HTTP/1.1\r\nHost: webhook\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return res
	}
	busy, answers := dial()
	silent, end := dial()
	if ask(busy, answers).Close || ask(silent, end).Close {
		t.Fatal("a connection is let go while the server serves")
	}
	s.stop()
	<-s.draining
	if !ask(busy, answers).Close {
		t.Error("a connection is kept while the server drains")
	}
	if _, err := end.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("a silent connection: %v, want its end", err)
	}
}
