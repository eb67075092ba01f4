/** Which services there are, as the gateway has it: for all tools. */
export * from '../../services/gateway/src/services.ts'
