/** `npm run infra -- kubernetes`: checks the Helm chart with all tools that this machine has, and says how to get the others. */
import { spawnSync } from 'node:child_process'
import { repository } from '@shopstream/testing'
import { isOnPath } from '../local/on-path.ts'
import { bad, good } from '../terminal/format.ts'
import { readArguments } from '../terminal/options.ts'
import { folderOf } from '../workspace/kubernetes-schemas.ts'

const usage = `Usage: npm run infra -- kubernetes

Renders infra/kubernetes/shopstream with each of its value files, and judges what comes of it: by helm lint, by the settings that
the services know, by the schemas of two versions of Kubernetes, by CRDs. \`npm test\` does the same with the tools that are there;
this says which are not, and exits with 1 then too.

  helm, kubeconform    on PATH
  KUBERNETES_SCHEMAS   a folder that holds v1.34.0-local-strict and others
  KUBERNETES_CRDS      a folder of CRDs as YAML, however deep, of KEDA, prometheus-operator, Strimzi and CloudNativePG`

const tools = [
  { name: 'helm', has: isOnPath('helm'), from: 'go install helm.sh/helm/v4/cmd/helm@v4.3.1' },
  {
    name: 'kubeconform',
    has: isOnPath('kubeconform'),
    from: 'go install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0',
  },
  {
    name: 'KUBERNETES_SCHEMAS',
    has: folderOf('KUBERNETES_SCHEMAS') !== undefined,
    from: 'pip download --no-deps kubernetes-validate, unpack it, and name its folder kubernetes_validate/kubernetes-json-schema',
  },
  {
    name: 'KUBERNETES_CRDS',
    has: folderOf('KUBERNETES_CRDS') !== undefined,
    from:
      'config/crd/bases of github.com/kedacore/keda and github.com/cloudnative-pg/cloudnative-pg, example/prometheus-operator-crd of ' +
      'github.com/prometheus-operator/prometheus-operator, install/cluster-operator of github.com/strimzi/strimzi-kafka-operator',
  },
]

const { positionals } = readArguments(usage, {})
if (positionals.join(' ') !== 'kubernetes') {
  process.stderr.write(`${usage}\n`)
  process.exit(2)
}
for (const { name, has, from } of tools)
  process.stdout.write(has ? `${good(`${name} is there`)}\n` : `${bad(`${name} is missing: ${from}`)}\n`)
const { status } = spawnSync(
  process.execPath,
  ['tools/src/commands/test.ts', 'tools/src/workspace/kubernetes.test.ts', '--verbose'],
  { cwd: repository, stdio: 'inherit', env: { ...process.env, TEST_BACKEND: 'none' } },
)
process.exit(status === 0 && tools.every(({ has }) => has) ? 0 : 1)
