package mesh

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// Config is what a person decides about the mesh as a whole.
type Config struct {
	// KubernetesAPI opens the Service of the Kubernetes API, as direct, where no label says otherwise.
	KubernetesAPI bool
	// Collector says that there is one for what labels trace.
	Collector bool
	// NeverInjected are the namespaces whose pods the webhook never gets.
	NeverInjected []string
	// TemplatesOnly says that a workload's label is not copied to its pod template, where it counts.
	TemplatesOnly bool
}

// A Mesh is the model of a cluster. It is owned by one goroutine.
type Mesh struct {
	config Config
	// limit is maxAddresses; tests have a smaller one.
	limit int

	services  map[Object]*openService
	slices    map[Object]*endpointSlice
	pods      map[Object]*pod
	workloads map[Object]*workload

	slicesOf      index // Service -> EndpointSlices
	slicesWith    index // Pod -> EndpointSlices
	podsOf        index // controller -> Pods
	podsAt        podAddresses
	replicaSetsOf index // Deployment -> ReplicaSets
	claims        claims
	// cut has the owners that want more addresses than they can have, with the first port that lacks some.
	cut map[Object]uint16

	// emptiedBy has the Services whose endpoints all have weight 0, by port, with the objects that say so, sorted; empties finds
	// such Services by those.
	emptiedBy map[Object][]Object
	empties   index

	// dirty holds the objects that Flush computes.
	dirty map[Object]struct{}
	// ports and problems are the state at the last Flush.
	ports    map[Object][]Port
	problems map[Object][]label.Problem
	// labels holds what changed since.
	labels []LabelChange
}

// New returns a mesh without objects.
func New(config Config) *Mesh {
	return &Mesh{
		config:        config,
		limit:         maxAddresses,
		services:      map[Object]*openService{},
		slices:        map[Object]*endpointSlice{},
		pods:          map[Object]*pod{},
		workloads:     map[Object]*workload{},
		slicesOf:      index{},
		slicesWith:    index{},
		podsOf:        index{},
		podsAt:        podAddresses{},
		replicaSetsOf: index{},
		claims:        newClaims(),
		cut:           map[Object]uint16{},
		emptiedBy:     map[Object][]Object{},
		empties:       index{},
		dirty:         map[Object]struct{}{},
		ports:         map[Object][]Port{},
		problems:      map[Object][]label.Problem{},
	}
}

// SetService adds or replaces a Service.
func (m *Mesh) SetService(s *corev1.Service) {
	next := m.open(projectService(s))
	m.replaceService(next.object, next)
}

// SetEndpointSlice adds or replaces an EndpointSlice.
func (m *Mesh) SetEndpointSlice(s *discoveryv1.EndpointSlice) {
	m.replaceSlice(Object{Kind: EndpointSlice, Namespace: s.Namespace, Name: s.Name}, projectEndpointSlice(s))
}

// SetPod adds or replaces a Pod.
func (m *Mesh) SetPod(p *corev1.Pod) {
	m.replacePod(Object{Kind: string(label.Pod), Namespace: p.Namespace, Name: p.Name}, projectPod(p))
}

// SetWorkload adds or replaces a Deployment, StatefulSet or DaemonSet with the labels of its pod template; a ReplicaSet,
// whose template does not matter; or a Namespace, Job or CronJob, whose labels concern no Service and have problems only.
func (m *Mesh) SetWorkload(kind string, meta *metav1.ObjectMeta, template map[string]string) {
	m.replaceWorkload(Object{Kind: kind, Namespace: meta.Namespace, Name: meta.Name}, projectWorkload(kind, meta, template))
}

// Delete removes an object of any of these kinds.
func (m *Mesh) Delete(o Object) {
	switch o.Kind {
	case string(label.Service):
		m.replaceService(o, nil)
	case EndpointSlice:
		m.replaceSlice(o, nil)
	case string(label.Pod):
		m.replacePod(o, nil)
	default:
		m.replaceWorkload(o, nil)
	}
}

// Flush computes what the events since the last call concern, and returns what is different now.
func (m *Mesh) Flush() Changes {
	changes := Changes{Labels: m.labels}
	slices.SortStableFunc(changes.Labels, func(a, b LabelChange) int { return a.Object.Compare(b.Object) })
	m.claim()
	isService := func(o Object) bool { return o.Kind == string(label.Service) }
	for _, o := range slices.SortedFunc(maps.Keys(m.dirty), Object.Compare) {
		if isService(o) {
			changes.Services = append(changes.Services, o)
			m.update(o, &changes)
		}
	}
	// They may concern others now, but no Service.
	for o := range m.dirty {
		if !isService(o) {
			m.update(o, &changes)
		}
	}
	slices.SortFunc(changes.Ports, func(a, b PortChange) int { return a.Owner.Compare(b.Owner) })
	slices.SortFunc(changes.Problems, func(a, b ProblemChange) int { return a.Object.Compare(b.Object) })
	m.labels = nil
	// A new map: going through one costs as much as it ever held, and the first Flush is of everything.
	m.dirty = map[Object]struct{}{}
	return changes
}

// update computes an object, and adds what differs to the changes.
func (m *Mesh) update(o Object, changes *Changes) {
	ports, problems := m.compute(o)
	if keep(m.ports, o, ports) {
		changes.Ports = append(changes.Ports, PortChange{Owner: o, Ports: ports})
	}
	if keep(m.problems, o, problems) {
		changes.Problems = append(changes.Problems, ProblemChange{Object: o, Problems: problems})
	}
}

// claim renews the claims of what changed, which concerns others that claim the same addresses.
func (m *Mesh) claim() {
	for _, o := range slices.Collect(maps.Keys(m.dirty)) {
		list, cut := m.claimsOf(o)
		m.claims.replace(o, list, m.touch)
		if cut != 0 {
			m.cut[o] = cut
		} else {
			delete(m.cut, o)
		}
	}
}

// keep stores the state of an object and reports whether it is another than before.
func keep[T any](states map[Object][]T, o Object, state []T) bool {
	if len(state) == 0 {
		_, had := states[o]
		delete(states, o)
		return had
	}
	if reflect.DeepEqual(states[o], state) {
		return false
	}
	states[o] = state
	return true
}

// compute returns the open ports of a Service or Pod and the problems of any object.
func (m *Mesh) compute(o Object) ([]Port, []label.Problem) {
	var (
		ports    []Port
		problems []label.Problem
	)
	switch o.Kind {
	case string(label.Service):
		var emptiedBy []Object
		if s := m.services[o]; s != nil {
			ports, problems, emptiedBy = m.build(s)
		}
		m.emptied(o, emptiedBy)
	case string(label.Pod):
		if p := m.pods[o]; p != nil {
			ports, problems = m.buildPod(o, p)
			problems = slices.Concat(problems, m.leavesNobody(o, p.labelled))
		}
	default:
		if w := m.workloads[o]; w != nil {
			problems = slices.Concat(w.problems, m.uninjected(o, w), m.leavesNobody(o, w.labelled))
		}
	}
	slices.SortStableFunc(problems, func(a, b label.Problem) int { return strings.Compare(a.Key, b.Key) })
	return ports, problems
}

// Problems returns the problems of an object as of the last Flush.
func (m *Mesh) Problems(o Object) []label.Problem { return m.problems[o] }
