package e2e

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// What becomes of a pod that opts in.
const (
	injected = 'i'
	refused  = 'r'
	bare     = 'b' // created without Envoy
)

// fates is what becomes of one pod after the other, as somebody who creates ten a second sees it, and of as many that do not
// opt in. The API server is asked as by kubectl create --dry-run=server: it admits or refuses as ever, and keeps nothing.
type fates struct {
	stop     context.CancelFunc
	done     sync.WaitGroup
	optedIn  strings.Builder
	others   int
	refusals []error
	wrong    []error
}

func watchFates(client kubernetes.Interface, namespace string) *fates {
	ctx, stop := context.WithCancel(context.Background())
	f := &fates{stop: stop}
	f.done.Go(func() {
		for ctx.Err() == nil {
			f.create(ctx, client, namespace)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return f
}

func (f *fates) create(ctx context.Context, client kubernetes.Interface, namespace string) {
	pod := func(labels map[string]string) (*corev1.Pod, error) {
		return client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "fate-", Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	}
	created, err := pod(map[string]string{"traffic.envoy.enabled": "true"})
	_, otherErr := pod(nil)
	if ctx.Err() != nil {
		return
	}
	f.others++
	if otherErr != nil {
		f.wrong = append(f.wrong, otherErr)
	}
	switch {
	case err == nil && len(created.Spec.InitContainers) > 0:
		f.optedIn.WriteByte(injected)
	case err == nil:
		f.optedIn.WriteByte(bare)
	case strings.Contains(err.Error(), "failed calling webhook"):
		f.optedIn.WriteByte(refused)
		f.refusals = append(f.refusals, err)
	default:
		f.wrong = append(f.wrong, err)
	}
}

// end checks that those that opted in fared as the expression says, a letter each, and that no other was ever held up.
func (f *fates) end(t *testing.T, want string) {
	t.Helper()
	f.stop()
	f.done.Wait()
	got := f.optedIn.String()
	counts := map[string]int{}
	for _, fate := range got {
		counts[string(fate)]++
	}
	t.Logf("%d pods that opted in: %d injected, %d refused, %d bare; %d others", len(got),
		counts[string(injected)], counts[string(refused)], counts[string(bare)], f.others)
	if !regexp.MustCompile("^(?:" + want + ")$").MatchString(got) {
		t.Errorf("pods that opted in fared %s, want %s; refusals: %v", got, want, errors.Join(f.refusals...))
	}
	if len(f.wrong) > 0 || f.others == 0 {
		t.Errorf("%d other pods, %d refused: %v", f.others, len(f.wrong), errors.Join(f.wrong...))
	}
}
