// One request of each kind that the demo family was made for.

const PERSON = {
  type: "object",
  properties: {
    name: { type: "string" },
    age: { type: "integer" },
    city: { type: "string" },
    job: { type: "string" },
  },
  required: ["name", "age", "city", "job"],
  additionalProperties: false,
};

const tool = (name, description, properties) => ({
  type: "function",
  function: { name, description, parameters: { type: "object", properties, required: Object.keys(properties) } },
});

const RECORD = '{"name":"Nina Olsen","item":"silver lamp","city":"Prague","price":662.08,"count":64}';

export const PRESETS = [
  {
    name: "Extract data",
    hint: "JSON that a schema enforces",
    text: "Text: Lucy Olsen, aged 34, works as a nurse in Prague.\n\nExtract the person as JSON.",
    schema: PERSON,
    temperature: 0,
  },
  {
    name: "Call a tool",
    hint: "a function and its arguments",
    text: "Convert 250 USD to EUR.",
    tools: [
      tool("convert_currency", "Convert an amount of money", { amount: { type: "number" }, source: { type: "string" }, target: { type: "string" } }),
      tool("get_weather", "Weather in a city", { city: { type: "string" } }),
    ],
    temperature: 0,
  },
  {
    name: "Edit a text",
    hint: "drafted from a prediction",
    text: `Update city to Lisbon: ${RECORD}`,
    prediction: RECORD,
    methods: ["prediction", "suffix"],
    temperature: 0,
  },
  {
    name: "Ask about a passage",
    hint: "answers that quote their prompt",
    text: "Read the text and answer: What is the code of Karen?\nHans travels on Monday. The code of Karen is FU-452. James lives in Jakarta. Nina has a sheep.",
    temperature: 0,
  },
  {
    name: "Write code",
    hint: "a short Python function",
    text: "Write a Python function total that sums up prices.",
    methods: ["draft", "eagle", "suffix"],
    temperature: 0,
  },
  {
    name: "Talk",
    hint: "what Outrider is, in its own words",
    text: "What is speculative decoding?",
    temperature: 0,
  },
];
