package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A token is what an Envoy proves with who it is.
type token struct {
	text   string
	claims struct {
		ID       string   `json:"jti"`
		Audience []string `json:"aud"`
		Issued   int64    `json:"iat"`
		Expires  int64    `json:"exp"`
	}
}

// renewed is the script command "renewed SERVICE": for each Envoy that the Service concerns it waits until nobody believes its
// first token any more, and checks that the kubelet has put another one in its place. It prints how long the first one was to
// live, and after how long the second one was issued, in seconds.
func (l local) renewed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: renewed service")
	}
	ctx := context.Background()
	client, err := l.cluster.Client()
	ts.Check(err)
	root, err := l.cluster.Root()
	ts.Check(err)
	envoys, err := l.envoys(ctx, ts.Getenv("NAMESPACE"), args[0])
	ts.Check(err)
	var first []token
	for _, e := range envoys {
		t, err := controlToken(root, e)
		ts.Check(err)
		ts.Check(believed(ctx, client, t, true))
		first = append(first, t)
	}
	for i, e := range envoys {
		ts.Check(ended(ctx, client, first[i]))
		now, err := controlToken(root, e)
		ts.Check(err)
		was := first[i].claims
		if now.claims.ID == was.ID {
			ts.Fatalf("the kubelet has not renewed the token of %s, which ended at %s", e.pod.Name, time.Unix(was.Expires, 0))
		}
		ts.Check(believed(ctx, client, now, true))
		_, err = fmt.Fprintf(ts.Stdout(), "%s: lived %d s, renewed after %d s, %s is now %s\n",
			e.pod.Name, was.Expires-was.Issued, now.claims.Issued-was.Issued, was.ID, now.claims.ID)
		ts.Check(err)
	}
}

// ended waits until the API server does not believe a token any more. It does for a minute longer than the token says.
func ended(ctx context.Context, client kubernetes.Interface, t token) error {
	time.Sleep(time.Until(time.Unix(t.claims.Expires, 0)))
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		if err := believed(ctx, client, t, false); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// believed asks the API server what the control plane asks it, and fails if the answer is another.
func believed(ctx context.Context, client kubernetes.Interface, t token, want bool) error {
	answer, err := client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: t.text, Audiences: t.claims.Audience},
	}, metav1.CreateOptions{})
	if err == nil && answer.Status.Authenticated != want {
		err = fmt.Errorf("token %s, of %s to %s, is believed: %t", t.claims.ID,
			time.Unix(t.claims.Issued, 0), time.Unix(t.claims.Expires, 0), answer.Status.Authenticated)
	}
	return err
}

// controlToken reads an Envoy's token for the control plane from the pod's volumes on the node.
func controlToken(root string, e envoy) (token, error) {
	volumes := filepath.Join(root, "var/lib/kubelet/pods", string(e.pod.UID), "volumes/kubernetes.io~projected")
	files, err := filepath.Glob(filepath.Join(volumes, "*/token"))
	if err != nil {
		return token{}, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return token{}, err
		}
		parts := strings.Split(string(text), ".")
		if len(parts) != 3 {
			return token{}, fmt.Errorf("%s: a token has %d parts", file, len(parts))
		}
		t := token{text: string(text)}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err := errors.Join(err, json.Unmarshal(payload, &t.claims)); err != nil {
			return token{}, fmt.Errorf("%s: %w", file, err)
		}
		if slices.Contains(t.claims.Audience, "traffic-control") {
			return t, nil
		}
	}
	return token{}, fmt.Errorf("no token for the control plane in %s", volumes)
}
