package ingress

import "time"

// lastWeek is how long before its end a certificate that lasts for weeks should have been renewed: cert-manager does so at two
// thirds of the time. Of one for days, it is the last quarter.
const lastWeek = 7 * 24 * time.Hour

// expiring tells whether the certificate ends soon.
func (c *certificate) expiring(now time.Time) bool {
	lasts := c.leaf.NotAfter.Sub(c.leaf.NotBefore)
	return c.leaf.NotAfter.Sub(now) < min(lastWeek, lasts/4)
}

// A CertificateCount counts the Secrets that hosts have.
type CertificateCount struct {
	// Unusable are those in whose place the gateway shows its own certificate: they are missing, broken or expired.
	Unusable int
	// Expiring are good, and end soon.
	Expiring int
}

// CountCertificates counts as of the last Flush, for a time that is not before it.
func (g *Gateway) CountCertificates(now time.Time) CertificateCount {
	var count CertificateCount
	for _, p := range g.certificateProblems {
		if p.reason != "" {
			count.Unusable++
		}
	}
	for o, p := range g.parsed {
		if p.certificate != nil && g.certificateProblems[o].reason == "" && p.certificate.expiring(now) {
			count.Expiring++
		}
	}
	return count
}
