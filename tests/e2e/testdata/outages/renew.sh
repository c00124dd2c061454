# renew CERTIFICATE SECRET: what "cmctl renew" does with a Certificate of the product. Returns when its Secret has another.
before=$(kubectl get secret -n traffic-system "$2" -o jsonpath='{.data.tls\.crt}')
kubectl patch certificate -n traffic-system "$1" --subresource=status --type=json -p '[{"op":"add","path":"/status/conditions/-","value":{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"Certificate re-issuance manually triggered","lastTransitionTime":"'$(date -u +%Y-%m-%dT%H:%M:%SZ)'"}}]'
for i in $(seq 300); do
  [ "$(kubectl get secret -n traffic-system "$2" -o jsonpath='{.data.tls\.crt}')" = "$before" ] || exit 0
  sleep 0.1
done
exit 1
