import { serviceNames } from '../../local/services.ts'
import type { Dashboard, Panel } from './panels.ts'
import { pipeline } from './pipeline-board.ts'
import { serviceBoard } from './service-board.ts'
import { shop } from './shop-board.ts'

export const dashboards: readonly Dashboard[] = [shop, pipeline, ...serviceNames.map(serviceBoard)]

/** Of 24 columns. */
const width = 8
const height = 8
// biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of Grafana
const datasource = { type: 'prometheus', uid: '${datasource}' }

/** As Grafana keeps it, at this place of the grid. */
function panelJson(panel: Panel, id: number, place: { x: number; y: number }) {
  const { title, description, unit, queries, stat, stacked, exemplars } = panel
  return {
    id,
    type: stat ? 'stat' : 'timeseries',
    title,
    description,
    datasource,
    gridPos: { h: height, w: width, ...place },
    fieldConfig: {
      defaults: {
        unit,
        ...(unit !== 's' && { min: 0 }),
        ...(!stat && {
          custom: {
            fillOpacity: stacked ? 30 : 0,
            stacking: { mode: stacked ? 'normal' : 'none' },
            showPoints: 'never',
            spanNulls: false,
          },
        }),
      },
      overrides: [],
    },
    options: stat
      ? { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'none', textMode: 'value_and_name' }
      : {
          legend: { showLegend: true, displayMode: 'list', placement: 'bottom' },
          tooltip: { mode: 'multi', sort: 'desc' },
        },
    targets: queries.map(({ expr, legend }, i) => ({
      refId: String.fromCharCode(65 + i),
      datasource,
      expr,
      legendFormat: legend,
      range: !stat,
      instant: stat ?? false,
      ...(exemplars && { exemplar: true }),
    })),
  }
}

/** Rows of three panels each, under their titles. */
function panelsOf({ rows }: Dashboard) {
  const panels: object[] = []
  let y = 0
  for (const { title, panels: ofRow } of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title,
      collapsed: false,
      gridPos: { h: 1, w: 24, x: 0, y },
      panels: [],
    })
    y += 1
    for (const [i, panel] of ofRow.entries())
      panels.push(panelJson(panel, panels.length + 1, { x: (i % 3) * width, y: y + Math.floor(i / 3) * height }))
    y += Math.ceil(ofRow.length / 3) * height
  }
  return panels
}

function dashboardJson(board: Dashboard): string {
  const json = {
    uid: `shopstream-${board.name}`,
    title: board.title,
    tags: ['shopstream'],
    description: 'Written by `npm run generate` from tools/src/workspace/monitoring.',
    schemaVersion: 39,
    editable: false,
    graphTooltip: 1,
    timezone: 'browser',
    refresh: '15s',
    time: { from: 'now-1h', to: 'now' },
    templating: { list: [{ name: 'datasource', label: 'Prometheus', type: 'datasource', query: 'prometheus' }] },
    links: [{ type: 'dashboards', title: 'Dashboards', tags: ['shopstream'], asDropdown: true, keepTime: true }],
    annotations: { list: [] },
    panels: panelsOf(board),
  }
  return `${JSON.stringify(json, null, 2)}\n`
}

/** The files of all dashboards, by path, with their texts. */
export const printDashboards = (): Record<string, string> =>
  Object.fromEntries(dashboards.map((board) => [`infra/grafana/dashboards/${board.name}.json`, dashboardJson(board)]))
