import { serviceNames } from '../../local/services.ts'
import type { Dashboard, Panel } from './panels.ts'
import { pipeline } from './pipeline-board.ts'
import { serviceBoard } from './service-board.ts'
import { shop } from './shop-board.ts'

export const dashboards: readonly Dashboard[] = [shop, pipeline, ...serviceNames.map(serviceBoard)]

const height = 8
/** In columns of 24, for so many panels below a title. */
const widthFor = (panels: number) => (panels % 3 === 0 ? 8 : panels % 4 === 0 ? 6 : panels % 2 === 0 ? 12 : 8)
// biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of Grafana
const datasource = { type: 'prometheus', uid: '${datasource}' }

/** As Grafana keeps it, at this place of the grid. */
function panelJson(panel: Panel, id: number, place: { x: number; y: number; w: number }) {
  const { title, description, unit, queries, stat, stacked, exemplars } = panel
  return {
    id,
    type: stat ? 'stat' : 'timeseries',
    title,
    description,
    datasource,
    gridPos: { h: height, ...place },
    fieldConfig: {
      defaults: {
        unit,
        ...(unit !== 's' && { min: 0 }),
        ...(!stat && {
          custom: {
            fillOpacity: stacked ? 30 : 0,
            stacking: { mode: stacked ? 'normal' : 'none' },
            showPoints: 'auto',
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

/** Panels in rows, under their titles. */
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
    const w = widthFor(ofRow.length)
    const perRow = 24 / w
    for (const [i, panel] of ofRow.entries())
      panels.push(
        panelJson(panel, panels.length + 1, { x: (i % perRow) * w, y: y + Math.floor(i / perRow) * height, w }),
      )
    y += Math.ceil(ofRow.length / perRow) * height
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
    links: [
      {
        type: 'dashboards',
        title: 'Dashboards',
        tags: ['shopstream'],
        asDropdown: true,
        keepTime: true,
        includeVars: false,
        targetBlank: false,
        icon: 'dashboard',
        tooltip: '',
      },
    ],
    annotations: { list: [] },
    panels: panelsOf(board),
  }
  return `${JSON.stringify(json, null, 2)}\n`
}

/** The files of all dashboards, by path, with their texts. */
export const printDashboards = (): Record<string, string> =>
  Object.fromEntries(dashboards.map((board) => [`infra/grafana/dashboards/${board.name}.json`, dashboardJson(board)]))
