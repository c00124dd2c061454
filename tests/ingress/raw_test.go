package ingress

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// raw sends bytes as they are, and returns the status of the first answer, and what its server saw.
func (g *gateway) raw(request string) (int, answer) {
	g.t.Helper()
	c, err := g.dial(g.t.Context(), gatewayAddress+":8080")
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		g.t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		g.t.Fatalf("%q: %v", request, err)
	}
	defer response.Body.Close()
	a := answer{location: response.Header.Get("Location")}
	if response.StatusCode == http.StatusOK {
		if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
			g.t.Fatalf("%q: %v", request, err)
		}
	}
	return response.StatusCode, a
}
