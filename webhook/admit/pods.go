package admit

import (
	"log/slog"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// pods answers InjectPath.
type pods struct {
	injector func() *inject.Injector
	log      *slog.Logger
}

func (h pods) answer(r *request[inject.Pod]) (answer, error) {
	result, err := h.injector().Pod(&r.Object)
	if err != nil {
		return answer{}, err
	}
	h.log.Debug("a pod", "namespace", r.Namespace, "name", result.Name, "result", string(result.Outcome))
	if result.Outcome == inject.Refused {
		h.log.Warn("refused a pod", "namespace", r.Namespace, "name", result.Name, "reason", result.Refusal)
	}
	return answer{
		result:   string(result.Outcome),
		refusal:  result.Refusal,
		patch:    result.Patch,
		warnings: bounded("pod "+result.Name, result.Warnings),
	}, nil
}
